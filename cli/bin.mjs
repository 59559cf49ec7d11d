#!/usr/bin/env node
// `npx signet …`: on whatever Node there is; the command itself runs on the project's own.
import { bootstrap } from '../tools/bootstrap.mjs'

bootstrap('cli', process.argv.slice(2))
