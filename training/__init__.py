"""Contrastive and supervised learning on stored views, evaluation, and the comparison of benefit and price."""
