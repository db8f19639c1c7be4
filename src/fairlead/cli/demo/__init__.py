"""`fairlead demo`: the main job on one machine, with real weights, replicas and clients.

Everything goes the way a user's own service would go: `fairlead up`, releases built from
manifests, gates, canaries, the OpenAI client, feedback. The demo only acts and watches.
"""
