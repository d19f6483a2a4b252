"""D360's tests."""

from hypothesis import HealthCheck, settings

# How long an example takes is a matter of the machine, and of what else it does.
settings.register_profile(
    "d360", deadline=None, suppress_health_check=(HealthCheck.too_slow,)
)
settings.load_profile("d360")
