import { expect, it } from 'vitest'
import { isPublicAddress } from './public-address.ts'

it.each([
  { address: '8.8.8.8', wantPublic: true },
  { address: '172.32.0.1', wantPublic: true },
  { address: '100.128.0.1', wantPublic: true },
  { address: '2606:4700::1111', wantPublic: true },
  { address: '0.0.0.0', wantPublic: false },
  { address: '10.1.2.3', wantPublic: false },
  { address: '100.64.0.1', wantPublic: false },
  { address: '127.0.0.1', wantPublic: false },
  { address: '169.254.169.254', wantPublic: false },
  { address: '172.31.255.255', wantPublic: false },
  { address: '192.168.0.1', wantPublic: false },
  { address: '224.0.0.1', wantPublic: false },
  { address: '255.255.255.255', wantPublic: false },
  { address: '::', wantPublic: false },
  { address: '::1', wantPublic: false },
  { address: '::ffff:127.0.0.1', wantPublic: false },
  { address: '::ffff:8.8.8.8', wantPublic: false },
  { address: '64:ff9b::7f00:1', wantPublic: false },
  { address: '2002:7f00:1::', wantPublic: false },
  { address: '2001:db8::1', wantPublic: false },
  { address: 'fd00::1', wantPublic: false },
  { address: 'fe80::1', wantPublic: false },
  { address: 'ff02::1', wantPublic: false },
  { address: 'example.org', wantPublic: false },
  { address: '', wantPublic: false },
])('$address is public: $wantPublic', ({ address, wantPublic }) => {
  expect(isPublicAddress(address)).toBe(wantPublic)
})
