"""Clocks, arms, pairs, and the lock that keeps timings on one device apart."""
