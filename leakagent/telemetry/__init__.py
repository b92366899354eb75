"""Sends the agent's numbers and findings to an OpenTelemetry backend; the only package that imports opentelemetry."""
