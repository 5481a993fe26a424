"""Labels → training targets and the losses that training minimises."""
