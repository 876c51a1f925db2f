"""What the OpenAPI document calls by a name of its own, for `scripts/fuzz-api`."""

import schemathesis
from hypothesis import strategies as st


def quotas():
    """Some of what the docs of `Quota` describe, far from the ends of its range."""
    amount = st.integers(1, 10_000).map(str)
    period = st.sampled_from(["second", "minute", "hour", "day", "10s", "30d", "5 minutes"])
    rest = st.sampled_from(["", " burst 7", " burst 1 strict", " strict"])
    return st.builds(lambda a, p, r: f"{a}/{p}{r}", amount, period, rest)


# One that is never deleted: which tiers there are is nothing that a document can say.
schemathesis.openapi.format("tier", st.just("default"))
schemathesis.openapi.format("quota", quotas())
# Nobody bans or blocks this machine, or the rest would be refused.
schemathesis.openapi.format("address", st.ip_addresses(network="192.0.2.0/24").map(str))
schemathesis.openapi.format("network", st.ip_addresses(network="2001:db8::/32").map(lambda address: f"{address}/128"))
schemathesis.openapi.format("uri", st.from_regex(r"\Ahttps?://[a-z]{1,20}\.example(:[1-9][0-9]{0,3})?(/[a-z0-9]{0,9}){0,3}(\?a=b)?\Z"))
# Grants end at a time to come.
schemathesis.openapi.format("date-time", st.from_regex(r"\A[3-8][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T[01][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,3})?Z\Z"))
