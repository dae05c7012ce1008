"""Where seed images lie, which of them are taken, and how they become pixels."""
