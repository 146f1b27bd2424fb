"""Pictures: matplotlib figures and notebook tables."""
