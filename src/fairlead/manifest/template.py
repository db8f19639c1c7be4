"""The manifest that `fairlead init` writes."""

from __future__ import annotations

_TEMPLATE = """\
# What this service is and how a new release of it gets its traffic.
# Every key is explained by `fairlead schema`, which editors can use too:
#   fairlead schema > fairlead.schema.json
# yaml-language-server: $schema=fairlead.schema.json

service: {service}   # clients put this name into the field `model`

release:
  name: first                    # a label for people; optional
  # A file relative to this one, hf://org/repo@revision, or an OpenAI-compatible endpoint:
  # openai://host/v1?model=NAME with api_key_env: PROVIDER_KEY
  model: models/model.gguf
  engine:
    settings:
      context: 4096              # tokens in all slots together
      slots: 4                   # requests that one replica serves at the same time
  prompt:
    # system: You answer the customers of a bank, in one sentence.
    user: "{{input}}"              # wraps the last user message
  sampling:                      # used where the client does not say otherwise
    temperature: 0
    max_tokens: 256

replicas:
  champion: 2                    # one may die without anyone noticing
  canary: 1

# A release must pass every gate before it gets any traffic.
gates:
  - name: quality
    suite: suite.csv             # .csv, .jsonl or .yaml
    columns: {{input: input, expected: expected}}
    scorer: contains             # exact, contains, regex, json_schema, json_field or numeric
    cases: 200                   # at most so many, always the same ones
    minimum: 70%                 # least mean score
    non_inferiority:             # against the champion, on the same cases
      margin: 0.05
      confidence: 0.95

# Then it gets a growing share of the traffic, and is promoted or rolled back on evidence.
# Sessions are compared: clients should send the header `x-session-id`, or the field `user`. Without
# them an API key is one unit, and one unit is no comparison.
rollout:
  strategy: canary               # or blue_green, ab, immediate
  # Copies of requests first, whose answers no client gets:
  # shadow: {{share: 10%, requests: 50, seconds: 10}}
  steps:
    - {{share: 10%, requests: 100, seconds: 30}}
    - {{share: 50%, requests: 200, seconds: 60}}
  # What clients post; required: no feedback within settle_seconds counts as bad.
  # feedback: {{name: success, good_at_least: 1, required: true}}
  settle_seconds: 30             # a unit's outcome is final so long after its first request
  tolerance: 0.0                 # how much worse it may be before it is rolled back
  margin: 0.02                   # promotion needs evidence that it is not worse by this much
  alpha: 0.01                    # probability of rolling back an equal release
  beta: 0.05                     # probability of promoting one that is worse by the margin
  deadline_minutes: 60
  # Afterwards the old release stays warm for a while, and the judge goes on:
  # after: {{warm_minutes: 60, holdback: 5%}}
  # Who is told and asked, and when nothing moves:
  # hooks: [{{url: "https://ci.example/rollouts"}}]
  # approve_promotion: true
  # freeze: [{{name: weekend, days: [fri], begins: "18:00", ends: "08:00"}}]

# What is promised is watched by error budgets; `fairlead monitor rules` does it in Prometheus.
slos:
  availability: 99.9%
  ttft_p95_ms: 500
  latency_p95_ms: 2000

# Who is told, and what is done; secrets are names of environment variables:
# monitoring:
#   routes:
#     - {{name: pager, severities: [page], to: {{kind: pagerduty, key_env: ALERT_PAGERDUTY}}}}
#   actions:
#     - {{do: roll_back, monitors: [slo], cooldown_minutes: 60, per_day: 2, dry_run: true}}

limits:
  queue: 256                     # requests that may wait for a free slot
  queue_timeout_seconds: 10
  request_timeout_seconds: 120
  body_bytes: 8MiB
  attempts: 3                    # replicas tried for one request
  # In all workers together: requests_per_minute, tokens_per_day and so on (minute, day, month), and
  # with `release.price: {{input_per_million: 0.15, output_per_million: 0.6}}` usd_per_month
"""


def starting_point(service: str) -> str:
    """A commented manifest for a service of this name; it loads once its files are there."""
    return _TEMPLATE.format(service=service)
