/** How many rounds a suite does: a few in CI, `SIGNET_FAULT_ROUNDS` (200) in `npm run test:fault`. */
export const ROUNDS = Number(process.env['SIGNET_FAULT_ROUNDS'] ?? 10)
export const ROUND_MS = 20_000
