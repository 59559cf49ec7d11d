-- What people say of a control: what it is, who answers for it, until when that holds. What a check sees is never stored: it is looked at anew.
CREATE TABLE control_statements (
  tenant      text           NOT NULL REFERENCES tenants,
  framework   text           NOT NULL,
  control     text           NOT NULL,
  status      text           NOT NULL CHECK (status IN ('implemented', 'in_progress', 'not_started')),
  owner       text           NOT NULL DEFAULT '',
  note        text           NOT NULL DEFAULT '',
  -- Links to what shows it.
  evidence    jsonb          NOT NULL DEFAULT '[]',
  valid_until timestamptz(3),
  version     integer        NOT NULL DEFAULT 1,
  updated_by  text           NOT NULL,
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, framework, control)
);
SELECT fence('control_statements');
GRANT SELECT, INSERT, UPDATE ON control_statements TO signet_governance;
