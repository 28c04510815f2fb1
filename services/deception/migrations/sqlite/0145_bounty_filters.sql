-- What attackers left, of one decky or one service: last seen first, as it is listed.
CREATE INDEX bounty_decky ON bounty (decky, last_seen DESC, id DESC);
CREATE INDEX bounty_service ON bounty (service, last_seen DESC, id DESC);
