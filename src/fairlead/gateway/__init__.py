"""The data plane: accepts OpenAI requests, routes them to replicas, records every outcome.

One process per worker, one event loop, no threads. The lifetimes, and the class of each:

    process              `worker.Worker`: spool, metrics, replicas, the queue
    snapshot             `loaded.Loaded`: keys, request-id key, services, endpoints
    client connection    `client.ClientConnection`
    request              `exchange.Exchange`
    answer               `relay.PlainRelay` or `relay.StreamRelay`
    upstream connection  `upstream.UpstreamConnection`
"""
