"""Who may come in: the authority, the certificates it gave, one-time enrolment tokens, API keys.

    edge-server certs | enrol-token | keys ──▶ access file (SQLite) ◀── enrolment door
                                                    │ read again as soon as it changes
                                                    ▼
                          CredentialStore: is this certificate, is this key good now?

Knows no transport and no model.
"""
