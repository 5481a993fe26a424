"""Labels → what heads are trained on, and what they minimise."""
