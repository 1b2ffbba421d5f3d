"""How a call uses the machine: threads, regions without the GIL, memory, and every tuned number. It knows no cell."""
