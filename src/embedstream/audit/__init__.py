"""The proof that the table equals the topic, and the repair where it does not."""

from embedstream.audit.proof import Wishes, audit
from embedstream.audit.report import Finding, Repair, Report

__all__ = ["Finding", "Repair", "Report", "Wishes", "audit"]
