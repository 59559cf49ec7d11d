-- Results do not stay for ever: what passed goes after 90 days, what failed after 400, unless something is or was done about it.
CREATE INDEX scan_results_old ON scan_results (tenant, created_at);
GRANT DELETE ON scan_results TO signet_governance;
