"""Measurements over real sockets: what attacks cost, and what is left behind."""
