//! watchover: a failover manager for two AWS regions.
