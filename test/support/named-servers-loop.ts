import net from 'node:net'

/**
 * Servers in a network namespace, for the tests of the packet filter: each answers a connection with its name, or passes it on.
 * Argument: JSON `{uid, servers: [{host, port, name} | {host, port, forward: {host, port}}]}`. Prints `ready`.
 */
type Server = { host: string; port: number; name?: string; forward?: { host: string; port: number } }
const { uid, servers } = JSON.parse(process.argv[2] ?? '{}') as { uid: number; servers: Server[] }

// Before it listens: a socket belongs to whoever opened it.
process.setgroups?.([])
process.setgid?.(uid)
process.setuid?.(uid)
await Promise.all(
  servers.map(
    ({ host, port, name, forward }) =>
      new Promise<void>((resolve) => {
        const server = net.createServer((socket) => {
          socket.on('error', () => {})
          if (forward === undefined) {
            socket.end(name ?? '')
            return
          }
          const onward = net.connect(forward)
          onward.on('error', () => socket.resetAndDestroy())
          socket.pipe(onward).pipe(socket)
        })
        server.listen({ host, port }, resolve)
      }),
  ),
)
process.stdout.write('ready\n')
