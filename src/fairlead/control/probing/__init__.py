"""Probes of providers whose models may change unseen."""
