//! What a page's form does, which is no route of the API.

use reqwest::StatusCode;
use serde_json::json;

use super::people::invite;
use super::{Field, listed};
use crate::browser::{Browser, end_of};
use crate::support::body;

/// Who clicks is cut off at each point and clicks again: the link makes one member, and who was not told so is let in by
/// another link.
pub(super) async fn check_joining(field: &mut Field) {
    let mut points = Vec::new();
    for round in 1.. {
        let (tenant, email) = (format!("t{round}"), format!("r{round}@example.com"));
        field.make_tenant(&tenant).await;
        let (id, link) = invite(field, &tenant, &email, "viewer").await;
        let secret = end_of(&link);
        let browser = Browser::at_address(&field.process.base_url);
        std::fs::write(&field.left, round.to_string()).unwrap();
        let is_over = match browser.try_submit("/sign-in/invitation", &[("secret", secret)]).await {
            Ok(joined) => {
                std::fs::remove_file(&field.left).unwrap();
                assert_eq!(joined.status(), StatusCode::OK);
                check_member(field, (&tenant, &id), &browser).await;
                true
            }
            Err(_) => {
                points.push(field.start_again(&format!("joining in round {round}")).await);
                let browser = browser.moved_to(&field.process.base_url);
                let again = browser.submit("/sign-in/invitation", &[("secret", secret)]).await;
                let was_done = points.last().unwrap() == "after_commit";
                assert_eq!(again.status(), if was_done { StatusCode::GONE } else { StatusCode::OK }, "round {round}");
                assert_eq!(browser.is_signed_in().await, !was_done);
                if was_done {
                    let [member] = &listed(&field.admin(), &format!("/members?tenant={tenant}")).await[..] else {
                        panic!("not one member in round {round}")
                    };
                    let path = format!("/members/{}/sign-in-link?tenant={tenant}", member["person"].as_str().unwrap());
                    let link = body(field.admin().post(&path, json!({})).await, StatusCode::CREATED).await;
                    browser.sign_in(link["link"].as_str().unwrap()).await;
                }
                check_member(field, (&tenant, &id), &browser).await;
                false
            }
        };
        field.check_whole().await;
        if is_over {
            break;
        }
    }
    assert_eq!(points, ["before_commit", "after_commit"]);
}

/// The invitation has made one person, who is a member and has the browser.
async fn check_member(field: &Field, (tenant, invitation): (&str, &str), browser: &Browser) {
    let session = browser.session().await;
    assert_eq!(session["tenant"], json!({ "tenant": tenant, "role": "viewer" }));
    let person = session["person"]["id"].as_str().unwrap();
    let members = listed(&field.admin(), &format!("/members?tenant={tenant}")).await;
    assert_eq!(members.iter().map(|member| &member["person"]).collect::<Vec<_>>(), [person]);
    let email = session["person"]["email"].as_str().unwrap();
    for (what, count) in [
        (format!("persons WHERE email = '{email}'"), 1),
        (format!("invitations WHERE id = '{invitation}' AND accepted_by = '{person}'"), 1),
        (format!("audit_entries WHERE action = 'member.joined' AND subject = '{person}'"), 1),
    ] {
        assert_eq!(field.number(&format!("SELECT count(*) AS n FROM {what}")).await, count, "{what}");
    }
}
