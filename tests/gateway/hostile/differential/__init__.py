"""The same bytes for the gateway and for others: never two requests where the other sees one.

`views` says what the gateway and h11 read and what two readings of the same bytes mean; `peers`
starts nginx, HAProxy and Apache; `lanes` sends messages through them. By itself:
`python tests/gateway/hostile/differential/run.py --cases 1000000 --report smuggling.md`.
"""
