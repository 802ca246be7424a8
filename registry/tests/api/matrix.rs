//! Every route of the document × every kind of caller × every kind of adapter: what each cell answers follows from the
//! table of rules and from nothing else.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::Scope;
use souk_registry::{Needs, RULES, Reach, Rule};

use crate::support::{AdapterFiles, Stack, User};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Anonymous,
    Revoked,
    Expired,
    /// A key of acme with one scope.
    Only(Scope),
    /// A key of acme with all scopes but `admin`.
    Owner,
    /// The same of another tenant.
    Stranger,
    Operator,
}

/// Whose adapter the path names. The owner is acme, the other one rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Private,
    Public,
    Absent,
    OthersPrivate,
    OthersPublic,
}

const THINGS: [Thing; 5] = [Thing::Private, Thing::Public, Thing::Absent, Thing::OthersPrivate, Thing::OthersPublic];

/// What a cell answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A success.
    Done,
    Refused(StatusCode, &'static str),
}

impl Caller {
    fn all() -> Vec<Self> {
        let others = [Self::Anonymous, Self::Revoked, Self::Expired, Self::Owner, Self::Stranger, Self::Operator];
        others.into_iter().chain(Scope::ALL.into_iter().map(Self::Only)).collect()
    }

    fn may(self, scope: Scope) -> bool {
        match self {
            Self::Anonymous | Self::Revoked | Self::Expired => false,
            Self::Only(own) => own == scope || own == Scope::Admin,
            Self::Owner | Self::Stranger => scope != Scope::Admin,
            Self::Operator => true,
        }
    }

    const fn tenant(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Operator => "admin",
            _ => "acme",
        }
    }
}

impl Thing {
    const fn owner(self) -> &'static str {
        match self {
            Self::Private | Self::Public | Self::Absent => "acme",
            Self::OthersPrivate | Self::OthersPublic => "rival",
        }
    }

    const fn is_public(self) -> bool {
        matches!(self, Self::Public | Self::OthersPublic)
    }
}

fn expected(rule: &Rule, caller: Caller, thing: Thing) -> Expected {
    let unknown = |code| Expected::Refused(StatusCode::UNAUTHORIZED, code);
    if rule.needs == Needs::Nothing {
        return Expected::Done;
    }
    match caller {
        Caller::Anonymous => return unknown("key_missing"),
        Caller::Revoked => return unknown("key_revoked"),
        Caller::Expired => return unknown("key_expired"),
        _ if matches!(rule.needs, Needs::Scope(scope) if !caller.may(scope)) => {
            return Expected::Refused(StatusCode::FORBIDDEN, "scope_missing");
        }
        _ => {}
    }
    if !rule.path.contains("{name}") {
        return Expected::Done;
    }
    let hidden = Expected::Refused(StatusCode::NOT_FOUND, "not_found");
    let is_own = caller.tenant() == thing.owner();
    match rule.reach {
        _ if thing == Thing::Absent => hidden,
        Reach::Any => Expected::Done,
        Reach::Visible | Reach::Own if !is_own && !thing.is_public() => hidden,
        Reach::Own if !is_own => Expected::Refused(StatusCode::FORBIDDEN, "not_owner"),
        _ => Expected::Done,
    }
}

/// What the cells are asked of. Names count up, so that no cell meets what another has changed.
struct Field {
    stack: Stack,
    owners: [User; 2],
    callers: Vec<(Caller, User)>,
    num_made: usize,
}

impl Field {
    async fn new() -> Self {
        let stack = Stack::start().await;
        let owners = [stack.tenant("acme").await, stack.tenant("rival").await];
        let stranger = stack.tenant("stranger").await;
        let soon = (time::OffsetDateTime::from(souk_protocol::wall_clock::now()) + time::Duration::seconds(1))
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        let short = json!({ "name": "short", "scopes": ["adapters:read"], "expires_at": soon });
        let short: Value = owners[0].post("/keys", short).await.json().await.unwrap();
        let all = ["inference", "adapters:read", "adapters:write", "keys:manage"];
        let revoked = stack.key_for("acme", &all).await;
        let id = stack.principal(&revoked).await.key;
        assert_eq!(stack.admin.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
        let mut callers = Vec::new();
        for caller in Caller::all() {
            let user = match caller {
                Caller::Anonymous => stack.user(""),
                Caller::Revoked => revoked.clone(),
                Caller::Expired => stack.user(short["secret"].as_str().unwrap()),
                Caller::Only(scope) => stack.key_for("acme", &[scope.as_str()]).await,
                Caller::Owner => owners[0].clone(),
                Caller::Stranger => stranger.clone(),
                Caller::Operator => stack.admin.clone(),
            };
            callers.push((caller, user));
        }
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        Self { stack, owners, callers, num_made: 0 }
    }

    fn next(&mut self) -> usize {
        self.num_made += 1;
        self.num_made
    }

    /// A name for the adapter that a cell is about, made if it is to be there.
    async fn make(&mut self, thing: Thing, caller: Caller, rule: &Rule) -> String {
        let name = format!("a{}", self.next());
        let owner = &self.owners[usize::from(thing.owner() == "rival")];
        if thing == Thing::Absent {
            return format!("acme/{name}");
        }
        let visibility = if thing.is_public() { "public" } else { "private" };
        owner.make_adapter(&name, visibility).await;
        let id = format!("{}/{name}", thing.owner());
        // What is refused before the version is looked at needs none.
        if expected(rule, caller, thing) == Expected::Done && rule.path != "/adapters/{owner}/{name}" {
            let mut files = AdapterFiles::tiny(1);
            // A take-down is of the content, so each has its own.
            files.tensors[0].2[0] = f32::from(u16::try_from(self.num_made).unwrap());
            assert_eq!(owner.upload(&id, "1.0.0", &files).await.status(), StatusCode::CREATED);
            let tag = owner.put(&format!("/adapters/{id}/tags/prod"), json!({ "version": "1.0.0" })).await;
            assert_eq!(tag.status(), StatusCode::OK);
        }
        id
    }

    /// Asks one cell.
    async fn ask(&mut self, rule: &Rule, caller: Caller, thing: Thing) -> (StatusCode, Value) {
        let adapter = if rule.path.contains("{name}") { self.make(thing, caller, rule).await } else { String::new() };
        let fresh = format!("n{}", self.next());
        let user = self.callers.iter().find(|(one, _)| *one == caller).unwrap().1.clone();
        let id = if rule.path.contains("{id}") {
            let key = self.stack.key_for(caller.tenant(), &["inference"]).await;
            self.stack.principal(&key).await.key.to_string()
        } else {
            String::new()
        };
        let path = rule.path.replace("{owner}/{name}", &adapter).replace("{version}", "1.0.0").replace("{id}", &id);
        let path = path.replace("{tag}", "prod").replace("{file}", "manifest.json");
        let method: Method = rule.method.parse().unwrap();
        let request = if caller == Caller::Anonymous {
            user.client.request(method, format!("{}{path}", self.stack.base_url))
        } else {
            user.request(method, &path)
        };
        let request = match (rule.method, rule.path) {
            ("POST", "/tenants" | "/adapters") => request.json(&json!({ "name": fresh })),
            ("POST", "/auth/token") => request.json(&json!({})),
            ("POST", "/keys") => {
                // A scope that every caller who may make keys has.
                let scope = if caller == Caller::Only(Scope::KeysManage) { "keys:manage" } else { "inference" };
                request.json(&json!({ "name": fresh, "scopes": [scope] }))
            }
            ("POST", path) if path.ends_with("/versions") => request.multipart(AdapterFiles::tiny(2).form("2.0.0")),
            ("POST", path) if path.ends_with("/take-down") => request.json(&json!({ "reason": "a reason" })),
            ("POST", path) if path.ends_with("/unyank") => request.json(&json!({})),
            ("PATCH", _) => request.json(&json!({ "description": "mine" })),
            ("PUT", _) => request.json(&json!({ "version": "1.0.0" })),
            _ => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_routes_by_callers_by_adapters_answers_as_the_rules_say() {
    let mut field = Field::new().await;
    let (mut num_cells, mut wrong) = (0, Vec::new());
    for rule in &RULES {
        let things: &[Thing] = if rule.path.contains("{name}") { &THINGS } else { &THINGS[..1] };
        for caller in Caller::all() {
            for &thing in things {
                num_cells += 1;
                let expected = expected(rule, caller, thing);
                let (status, body) = field.ask(rule, caller, thing).await;
                let is_right = match expected {
                    Expected::Done => status.is_success(),
                    Expected::Refused(refusal, code) => status == refusal && body["code"] == code,
                };
                if !is_right {
                    let route = format!("{} {}", rule.method, rule.path);
                    wrong.push(format!("{route}, {caller:?}, {thing:?}: {status} {body}, not {expected:?}"));
                }
            }
        }
    }
    assert!(num_cells > 900, "{num_cells}");
    assert!(wrong.is_empty(), "{} of {num_cells} cells:\n{}", wrong.len(), wrong.join("\n"));
}
