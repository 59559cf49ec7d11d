import { Counter, Gauge, Histogram, type OpenMetricsContentType, type Registry } from 'prom-client'

/** What the gauges show, read when they are scraped. */
export type AuditState = {
  pendingEvents(): number
  pendingBytes(): number
  diskBytes(): number
  /** Seconds since the time of the oldest event that is not acknowledged; 0 where there is none. */
  oldestAgeSeconds(): number
  writable(): boolean
  consistent(): boolean
}

export type AuditMetrics = ReturnType<typeof createAuditMetrics>

/** Metric families of the audit path (`docs/reference/metrics.md`). */
export function createAuditMetrics(registry: Registry | Registry<OpenMetricsContentType>) {
  const registers = [registry]
  const state: { current: AuditState | undefined } = { current: undefined }
  function gauge(name: string, help: string, read: (state: AuditState) => number): void {
    void new Gauge({
      name,
      help,
      registers,
      collect() {
        if (state.current !== undefined) this.set(read(state.current))
      },
    })
  }
  gauge('signet_audit_pending_events', 'Audit events in the spool that the ledger has not acknowledged', (s) =>
    s.pendingEvents(),
  )
  gauge('signet_audit_pending_bytes', 'Bytes of the audit events that the ledger has not acknowledged', (s) =>
    s.pendingBytes(),
  )
  gauge('signet_audit_oldest_seconds', 'Age of the oldest audit event that the ledger has not acknowledged', (s) =>
    s.oldestAgeSeconds(),
  )
  gauge('signet_audit_spool_bytes', 'Bytes of the audit spool on disk', (s) => s.diskBytes())
  gauge('signet_audit_spool_writable', '1 while the audit spool takes events', (s) => (s.writable() ? 1 : 0))
  gauge('signet_audit_ledger_consistent', '0 since the ledger contradicted what it signed before', (s) =>
    s.consistent() ? 1 : 0,
  )
  return {
    observe(current: AuditState): void {
      state.current = current
    },
    acked: new Counter({ name: 'signet_audit_acked', help: 'Audit events acknowledged by the ledger', registers }),
    refused: new Counter({
      name: 'signet_audit_refused',
      help: 'Audit events that the ledger refused; kept in the dead-letter file of the spool',
      registers,
    }),
    inconsistent: new Counter({
      name: 'signet_audit_ledger_inconsistent',
      help: 'Times that the ledger contradicted what it signed before',
      registers,
    }),
    sendFailures: new Counter({
      name: 'signet_audit_send_failures',
      help: 'Failed calls to the ledger, by error code',
      labelNames: ['code'],
      registers,
    }),
    batchSeconds: new Histogram({
      name: 'signet_audit_batch_seconds',
      help: 'From sending a batch to its verified acknowledgement',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
      registers,
    }),
    fsyncSeconds: new Histogram({
      name: 'signet_audit_fsync_seconds',
      help: 'Making spooled audit events durable',
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1],
      registers,
    }),
  }
}
