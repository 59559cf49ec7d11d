import { readFileSync } from 'node:fs'
import path from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import { ROOT } from './state.ts'
import { EXIT, UsageError } from './usage.ts'

const HELP = `signet COMMAND

  up        starts everything here: a demo service, the proxy in front of it, the ledger (npm start)
  verify    checks a stamp against its content, or the ledger's hash chain
  fsck      verifies a whole audit wall straight from its database
  archive   lists, verifies and restores what the ledger archived to object storage
  keys      lists, rotates, archives and revokes the keys of a keyring file
  doctor    looks at a cluster and says what is wrong and what to restart
  inject    puts the sidecar into manifests, as the admission webhook does
  rules     tests ComplianceRules against samples: signet rules test
  help      says more of a command: signet help verify
  version   prints the version
`

async function run(command: string | undefined, args: string[]): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) return help([command ?? ''])
  switch (command) {
    // Loaded when asked for: one needs a database driver, the other does not.
    case 'up':
      return (await import('./commands/up.ts')).up(args, process.env)
    case 'verify':
      return (await import('./commands/verify.ts')).verify(args, process.env)
    case 'fsck':
      return (await import('./commands/fsck.ts')).fsck(args, process.env)
    case 'archive':
      return (await import('./commands/archive.ts')).archive(args, process.env)
    case 'keys':
      return (await import('./commands/keys.ts')).keys(args)
    case 'doctor':
      return (await import('./commands/doctor.ts')).doctor(args)
    case 'inject':
      return (await import('./commands/inject.ts')).inject(args)
    case 'rules':
      return (await import('./commands/rules.ts')).rules(args, process.env)
    case 'version':
    case '--version':
      process.stdout.write(`${version()}\n`)
      return 0
    case 'help':
    case '--help':
    case '-h':
      return help(args)
    case undefined:
      throw new UsageError('no command given', HELP)
    default:
      throw new UsageError(`there is no command ${command}`, HELP)
  }
}

async function help([command]: string[]): Promise<number> {
  let text = HELP
  if (command === 'up') text = (await import('./commands/up.ts')).UP_HELP
  if (command === 'verify') text = (await import('./commands/verify.ts')).VERIFY_HELP
  if (command === 'fsck') text = (await import('./commands/fsck.ts')).FSCK_HELP
  if (command === 'archive') text = (await import('./commands/archive.ts')).ARCHIVE_HELP
  if (command === 'keys') text = (await import('./commands/keys.ts')).KEYS_HELP
  if (command === 'doctor') text = (await import('./commands/doctor.ts')).DOCTOR_HELP
  if (command === 'inject') text = (await import('./commands/inject.ts')).INJECT_HELP
  if (command === 'rules') text = (await import('./commands/rules.ts')).RULES_HELP
  process.stdout.write(text)
  return 0
}

function version(): string {
  const manifest = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { version: string }
  return manifest.version
}

/** One clear line for what the user can mend; the stack for a defect. */
function report(error: unknown): number {
  if (error instanceof UsageError) {
    process.stderr.write(`signet: ${error.message}\n${error.hint === undefined ? '' : `\n${error.hint}`}`)
    return EXIT.usage
  }
  if (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) {
    process.stderr.write(`signet: ${error.message.split('. ', 1)[0]}\n`)
    return EXIT.usage
  }
  if (error instanceof SignetError) {
    process.stderr.write(`signet: ${error.message}\n`)
    return 1
  }
  process.stderr.write(`signet: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return 1
}

const [command, ...args] = process.argv.slice(2)
// Not process.exit: what is still on its way to a pipe would be cut off.
process.exitCode = await run(command, args).catch(report)
