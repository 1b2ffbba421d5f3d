"""One call of a recurrence or a product: geometry, packed weights, one execution plan, and the passes.

It takes values and knows no layer. Layers say what, the engine says how, kernels compute, the runtime owns the machine.
"""
