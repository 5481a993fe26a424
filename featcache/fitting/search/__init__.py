"""Options with several values → one run: settings to try, their trainings, the choice on validation parts."""
