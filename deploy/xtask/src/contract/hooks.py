"""What schemathesis is told of the product beside its document: what is there, and how to go on being signed in.

CONTRACT_FOLDER has `told.json` of seed.py.
"""

import json
import os
import random
import uuid

import requests
import schemathesis

with open(os.path.join(os.environ["CONTRACT_FOLDER"], "told.json"), encoding="utf-8") as told:
    TOLD = json.load(told)
BASE = os.environ["CONTRACT_BASE"]
NOBODY = "00000000-0000-7000-8000-000000000000"
# What ends the sign-in that it is called with.
ENDS_SIGN_IN = {"logout", "change_password"}


def lines(context, value):
    """Lines of another honeypot and YAML go out as text."""
    return {"data": value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")}


schemathesis.serializer("application/x-ndjson", "application/yaml")(lines)


def known(path):
    """What there is for the parameters of a path."""
    for part, values in TOLD["known"].items():
        if part in path:
            return values
    return {}


@schemathesis.hook
def map_headers(context, headers):
    """Makes most changes without a condition: else nearly every answer would be 412, or 304."""
    if headers and random.random() < 0.75:
        return {name: value for name, value in headers.items() if name not in ("If-Match", "If-None-Match")}
    return headers


@schemathesis.hook
def map_query(context, query):
    """A download needs a link that was signed."""
    if context.operation.path.endswith("/download") and TOLD["link"] and random.random() < 0.5:
        return dict(pair.split("=", 1) for pair in TOLD["link"].split("&"))
    return query


def is_id(value):
    """Whether this is written as an id is."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


@schemathesis.hook
def before_call(context, case, kwargs):
    """Asks for what is there, three times of four, else nearly every answer would be 404; and keeps the users of this
    run able to go on."""
    parameters = case.path_parameters or {}
    values = known(case.operation.path)
    for name, value in parameters.items():
        if name in values and random.random() < 0.75:
            parameters[name] = random.choice(values[name])
        if parameters[name] in TOLD["never"]:
            parameters[name] = NOBODY
    if isinstance(case.body, dict):
        for name, value in case.body.items():
            if name in TOLD["fields"] and is_id(value) and random.random() < 0.75:
                case.body[name] = random.choice(TOLD["fields"][name])


@schemathesis.check
def only_failed_deployments_are_500(context, response, case):
    """See schemathesis.toml."""
    identity = case.operation.definition.raw.get("operationId")
    if response.status_code == 500 and identity in ("deploy_fleet", "mutate_decky"):
        assert " and was taken back; what could not start: " in response.json()["detail"], response.text


class Bearer:
    """Signs requests in; those that end their sign-in get one of their own."""

    def get(self, case, context):
        if context.operation.definition.raw.get("operationId") in ENDS_SIGN_IN and TOLD["spare"]:
            body = {"username": TOLD["spare"], "password": os.environ["CONTRACT_PASSWORD"]}
            answer = requests.post(f"{BASE}/api/v1/auth/login", json=body, timeout=30)
            answer.raise_for_status()
            return answer.json()["access_token"]
        return TOLD["token"]

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


if TOLD["token"]:
    schemathesis.auth(refresh_interval=None)(Bearer)
