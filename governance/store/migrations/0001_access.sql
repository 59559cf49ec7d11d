-- Governance's primary store: who may do what. Every row belongs to a tenant; row-level security is the second fence behind the queries'
-- own conditions. The login `signet_governance` names its tenant for a transaction; without one it sees nothing.

CREATE TABLE tenants (
  tenant     text        PRIMARY KEY CHECK (length(tenant) BETWEEN 1 AND 512 AND tenant !~ '\s'),
  name       text        NOT NULL,
  state      text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE users (
  tenant          text        NOT NULL REFERENCES tenants,
  id              uuid        NOT NULL,
  -- As it was given; compared in lower case.
  email           text        NOT NULL,
  name            text        NOT NULL,
  state           text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
  mfa_enabled     boolean     NOT NULL DEFAULT false,
  -- PHC string of argon2id; null for those who come by single sign-on only.
  password        text,
  -- Wrong passwords in a row, and until when no password counts.
  failed_logins   integer     NOT NULL DEFAULT 0,
  locked_until    timestamptz,
  version         integer     NOT NULL DEFAULT 1,
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  updated_at      timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX users_email ON users (tenant, lower(email));

-- Single sign-on: what an identity provider calls a user.
CREATE TABLE user_identities (
  tenant   text NOT NULL,
  provider text NOT NULL,
  subject  text NOT NULL,
  user_id  uuid NOT NULL,
  PRIMARY KEY (tenant, provider, subject),
  FOREIGN KEY (tenant, user_id) REFERENCES users ON DELETE CASCADE
);

CREATE TABLE service_accounts (
  tenant      text        NOT NULL REFERENCES tenants,
  id          uuid        NOT NULL,
  name        text        NOT NULL,
  description text        NOT NULL DEFAULT '',
  state       text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
  version     integer     NOT NULL DEFAULT 1,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, name)
);

CREATE TABLE roles (
  tenant      text        NOT NULL REFERENCES tenants,
  id          uuid        NOT NULL,
  name        text        NOT NULL,
  description text        NOT NULL DEFAULT '',
  -- A role that Signet ships: its permissions are what the release says, and it cannot be deleted.
  shipped     boolean     NOT NULL DEFAULT false,
  version     integer     NOT NULL DEFAULT 1,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, name)
);

-- `*` stands for every action, every resource. `own`: only what is assigned to, or was made by, whoever asks.
CREATE TABLE role_permissions (
  tenant   text NOT NULL,
  role_id  uuid NOT NULL,
  action   text NOT NULL,
  resource text NOT NULL,
  extent   text NOT NULL DEFAULT 'all' CHECK (extent IN ('all', 'own')),
  PRIMARY KEY (tenant, role_id, action, resource),
  FOREIGN KEY (tenant, role_id) REFERENCES roles ON DELETE CASCADE
);

CREATE TABLE role_bindings (
  tenant         text        NOT NULL,
  id             uuid        NOT NULL,
  role_id        uuid        NOT NULL,
  principal_kind text        NOT NULL CHECK (principal_kind IN ('user', 'service_account')),
  principal_id   uuid        NOT NULL,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, principal_kind, principal_id, role_id),
  FOREIGN KEY (tenant, role_id) REFERENCES roles ON DELETE CASCADE
);

-- API tokens and sessions. The token itself is nowhere: 32 random bytes need no slow hash.
CREATE TABLE tokens (
  tenant         text        NOT NULL REFERENCES tenants,
  id             uuid        NOT NULL,
  kind           text        NOT NULL CHECK (kind IN ('api', 'session')),
  name           text        NOT NULL,
  sha256         bytea       NOT NULL UNIQUE CHECK (length(sha256) = 32),
  principal_kind text        NOT NULL CHECK (principal_kind IN ('user', 'service_account')),
  principal_id   uuid        NOT NULL,
  -- What of the principal's permissions it carries: ["read:policies", "*:scans"]; null for all of them.
  scopes         jsonb,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  expires_at     timestamptz NOT NULL,
  revoked_at     timestamptz,
  PRIMARY KEY (tenant, id)
);
CREATE INDEX tokens_principal ON tokens (tenant, principal_kind, principal_id);
CREATE INDEX tokens_expired ON tokens (expires_at);

CREATE FUNCTION fence(target regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
  EXECUTE format('CREATE POLICY of_tenant ON %s USING (tenant = current_setting(''signet.tenant'', true)) WITH CHECK (tenant = current_setting(''signet.tenant'', true))', target);
END $$;
REVOKE ALL ON FUNCTION fence(regclass) FROM PUBLIC;
SELECT fence('users'), fence('user_identities'), fence('service_accounts'), fence('roles'), fence('role_permissions'),
  fence('role_bindings'), fence('tokens');

-- A token names its tenant only once it is found: so it is looked for here, as the owner, by its digest and by nothing else.
CREATE POLICY owner_finds ON tokens FOR SELECT TO CURRENT_USER USING (true);
CREATE FUNCTION find_token(digest bytea) RETURNS TABLE (tenant text, id uuid, kind text, principal_kind text, principal_id uuid, scopes jsonb, expires_at timestamptz, revoked_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.tenant, t.id, t.kind, t.principal_kind, t.principal_id, t.scopes, t.expires_at, t.revoked_at
  FROM signet.tokens t JOIN signet.tenants n ON n.tenant = t.tenant AND n.state = 'active'
  WHERE t.sha256 = digest
$$;
REVOKE ALL ON FUNCTION find_token(bytea) FROM PUBLIC;
-- The names of all tenants, for upkeep: sessions that ran out, actions that nobody ended.
CREATE FUNCTION tenant_names() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT tenant FROM signet.tenants ORDER BY tenant
$$;
REVOKE ALL ON FUNCTION tenant_names() FROM PUBLIC;

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON tenants FOR SELECT TO signet_governance USING (tenant = current_setting('signet.tenant', true));

GRANT USAGE ON SCHEMA signet TO signet_governance;
GRANT SELECT ON tenants TO signet_governance;
GRANT SELECT, INSERT, UPDATE, DELETE ON users, user_identities, service_accounts, roles, role_permissions, role_bindings, tokens TO signet_governance;
GRANT EXECUTE ON FUNCTION find_token(bytea), tenant_names() TO signet_governance;
