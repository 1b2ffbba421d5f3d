"""The loops of recurrent layers, written once and made for a cell: sequences, BPTT, and the ways over several cores."""
