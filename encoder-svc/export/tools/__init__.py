"""Developer tools: benchmarks, test bundles and test cases. No bundle depends on this package."""
