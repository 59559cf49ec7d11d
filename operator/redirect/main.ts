import { SignetError } from '#core/error/signet-error.ts'
import { applyRuleset, createNft } from './apply.ts'
import { readRedirectConfig } from './config.ts'
import { renderRuleset } from './ruleset.ts'

/*
 * The init container of capture `redirect`. Ends with 0 only when the rules are in force; with anything else the pod does not start,
 * which is what is wanted: a pod without them could be reached around the proxy.
 */
try {
  const config = readRedirectConfig(process.env)
  await applyRuleset(renderRuleset(config), createNft('nft'))
  process.stdout.write(
    `signet-redirect: ${config.port === null ? 'nothing is captured' : `port ${config.port} leads to the proxy`}; all other ports are closed${config.passthroughPorts.length === 0 ? '' : ` but ${config.passthroughPorts.join(', ')}`}\n`,
  )
} catch (error) {
  const message = error instanceof SignetError ? error.message : String(error instanceof Error ? error.stack : error)
  process.stderr.write(`signet-redirect: cannot start: ${message}\n`)
  process.exitCode = 1
}
