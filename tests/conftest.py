"""What holds for every test."""

pytest_plugins = ["secrecy.plugin", "scheduling"]
