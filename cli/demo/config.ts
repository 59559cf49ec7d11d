import Type from 'typebox'
import { LISTEN_ADDRESS } from '#runtime/http/listen.ts'

export const DEMO_CONFIG = Type.Object({
  SIGNET_DEMO_LISTEN: Type.String({
    ...LISTEN_ADDRESS,
    default: '127.0.0.1:8081',
    description: 'Where the demo service listens.',
  }),
})
