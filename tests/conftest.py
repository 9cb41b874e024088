pytest_plugins = [
    "fix_tasks",
    "fix_controlplane",
    "fix_postgres",
    "fix_nats",
    "fix_ssh",
    "fix_operator",
    "fix_helm",
]
