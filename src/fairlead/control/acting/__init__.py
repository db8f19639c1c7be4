"""What monitors' deciders are told of the platform, and how what they decide is carried out."""
