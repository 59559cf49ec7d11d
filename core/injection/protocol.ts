/** Words of a port's name, between its hyphens, that say what is spoken there. */
const WORDS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    amqp: 'AMQP',
    amqps: 'AMQP',
    cassandra: 'CQL',
    cql: 'CQL',
    epmd: 'Erlang distribution',
    grpc: 'gRPC',
    h2c: 'HTTP/2',
    http2: 'HTTP/2',
    jmx: 'JMX',
    kafka: 'Kafka',
    ldap: 'LDAP',
    mariadb: 'MySQL',
    memcache: 'memcached',
    memcached: 'memcached',
    mongo: 'MongoDB',
    mongodb: 'MongoDB',
    mqtt: 'MQTT',
    mysql: 'MySQL',
    postgres: 'PostgreSQL',
    postgresql: 'PostgreSQL',
    redis: 'Redis',
    sftp: 'SSH',
    smtp: 'SMTP',
    ssh: 'SSH',
    syslog: 'syslog',
    valkey: 'Redis',
    zookeeper: 'ZooKeeper',
  }),
)
/** What members of a cluster say to each other, whatever else the name says: Grafana's `http-memberlist` is no HTTP. */
const GOSSIP = new Set(['gossip', 'memberlist', 'membership'])
/** Beside another word these are what is spoken: `redis-exporter`, `kafka-rest`, `grpc-web`. */
const HTTP_WORDS = new Set(['http', 'web', 'rest', 'ui', 'exporter', 'metrics', 'management'])

/** Usual numbers of protocols that have no other use. https://www.iana.org/assignments/service-names-port-numbers */
const NUMBERS: ReadonlyMap<number, string> = new Map([
  [22, 'SSH'],
  [25, 'SMTP'],
  [389, 'LDAP'],
  [1883, 'MQTT'],
  [2181, 'ZooKeeper'],
  [3306, 'MySQL'],
  [4317, 'gRPC'],
  [5432, 'PostgreSQL'],
  [5672, 'AMQP'],
  [6379, 'Redis'],
  [9042, 'CQL'],
  [9092, 'Kafka'],
  [11_211, 'memcached'],
  [27_017, 'MongoDB'],
  [50_051, 'gRPC'],
])

/** What is spoken at a port where its name or number says that it is not HTTP/1.1; null where it may be. TLS is another question. */
export function foreignProtocol(name: string | undefined, port: number): string | null {
  const words = name?.split('-') ?? []
  if (words.some((word) => GOSSIP.has(word))) return 'gossip'
  if (words.some((word) => HTTP_WORDS.has(word))) return null
  const said = words.map((word) => WORDS.get(word)).find((protocol) => protocol !== undefined)
  return said ?? NUMBERS.get(port) ?? null
}

const TLS_NUMBERS: ReadonlySet<number> = new Set([443, 6_443, 8_443, 9_443, 10_250])

/** Whether the name says TLS, or the number does (those of the API server's webhooks too) and the name does not say HTTP. */
export function looksLikeTls(name: string | undefined, port: number): boolean {
  if (name === 'https' || name?.startsWith('https-') === true || name?.endsWith('-https') === true) return true
  return TLS_NUMBERS.has(port) && name?.startsWith('http') !== true
}
