"""What is measured; see `benchmarks.plan.Scenario`."""
