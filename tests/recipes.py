"""A recipe of a small network, and a sweep of it in which two runs fail."""

RECIPE = """
[network]
dim = 8
num_blocks = [1, 1, 1, 1]
num_refinement_blocks = 1
prompt_dims = [8, 16, 40]
prompt_sizes = [8, 4, 2]

[data]
root = "data"
patch_size = 16
batch_size = 2

[ticket]
rounds = 2
amount = 0.5
lr = 1e-3

[evaluate]
images = 1
crop = 32
"""

SWEEP = """
recipe = "recipe.toml"
seeds = [0, 1]

[methods.mir-l]

[methods.reinit]
after = "mir-l"
ticket.control = "reinit"

[methods.bad]
ticket.rewind = 1000
"""
