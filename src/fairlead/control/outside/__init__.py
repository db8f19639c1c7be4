"""What others are asked and told: models, webhooks, Prometheus."""
