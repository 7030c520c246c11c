"""One file, one policy; `policies.checks` has the check that any policy must pass."""

SHORT_NAMES = {
    "clipper": "policies.clipper:Clipper",
    "coarse": "policies.coarse:Coarse",
    "infaas": "policies.infaas:Infaas",
    "maxacc": "policies.maxacc:MaxAcc",
    "maxbatch": "policies.maxbatch:MaxBatch",
    "slackfit": "policies.slackfit:SlackFit",
}
"""What an experiment file may call the policies that come with the toolkit."""
