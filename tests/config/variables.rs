//! Variables of the environment, in texts and in the place of values.

use crate::{
    common::{App, from, get},
    stage::{format, limiter, mistakes, service},
};

const FILE: &str = r#"
[[rule]]
name = "the api"
routes = ["/${VERSION:-v1}/api", "/$${literally}"]
[[rule.limit]]
name = "each"
quota = "${QUOTA}"
"#;

#[tokio::test]
async fn texts_take_variables_and_defaults() {
    let config = format().variables([("QUOTA", "3/hour")]).parse("tidegate.toml", FILE).unwrap();
    let (limiter, _) = limiter(&config);
    let service = service(&limiter);
    assert_eq!(service.admits(9, || get("/v1/api")).await, 3);
    assert_eq!(service.admits(9, || get("/v2/api")).await, 9);
    let config =
        format().variables([("QUOTA", "3/hour"), ("VERSION", "v2")]).parse("tidegate.toml", FILE).unwrap();
    assert!(format!("{:?}", config.policy()).contains("\"/v2/api\", \"/${literally}\""));
}

#[test]
fn a_variable_that_is_missing_or_malformed_is_a_mistake() {
    let found = mistakes(FILE);
    assert_eq!(found, "7:9: variable QUOTA is not set; set it, or give a default with ${QUOTA:-default}");
    let found = mistakes("[store]\nmemory = \"${SIZE\"\nsecret = \"${A B}\"");
    let expected = [
        "2:10: a variable begins here with ${ and does not end; close it with }, or write $${",
        "3:10: \"A B\" cannot be a variable's name; write ${NAME} or ${NAME:-default}",
    ];
    assert_eq!(found, expected.join("\n"));
}

/// Each kind of value: texts, numbers, flags, lists, what is in a list by name and by number, and what is not there yet.
#[tokio::test]
async fn variables_take_the_place_of_values() {
    let variables = [
        ("QUOTA", "1/hour"),
        ("TIDEGATE_RULE__THE_API__LIMIT__EACH__QUOTA", "5/hour"),
        ("TIDEGATE_RULE__0__LIMIT__0__COST", "2"),
        ("TIDEGATE_RULE__THE_API__ROUTES", r#"["/x"]"#),
        ("TIDEGATE_STORE__MAX_WAITING", "17"),
        ("TIDEGATE_STORE__PLAIN_ADDRESSES", "true"),
        ("TIDEGATE_BLOCK__NETWORKS", r#"["192.0.2.9"]"#),
        ("TIDEGATE_CONFIG", "/etc/tidegate.toml"),
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
    ];
    let config = format().variables(variables).parse("tidegate.toml", FILE).unwrap();
    let (limiter, _) = limiter(&config);
    let service = service(&limiter);
    assert_eq!(service.admits(9, || get("/x")).await, 2);
    assert_eq!(service.status(from("192.0.2.9", "GET", "/x")).await, 403);
}

#[test]
fn variables_that_fit_nowhere_are_mistakes_told_by_their_names() {
    let wrong = [
        (
            "TIDEGATE_RULE__API__SHADOW",
            "true",
            "nothing in this list of 1 is named or numbered \"API\"; did you mean \"THE_API\"?",
        ),
        ("TIDEGATE_STORE__MEMROY", "1", "\"memroy\" is not known here; did you mean \"memory\"?"),
        ("TIDEGATE_STORE__MAX_WAITING", "many", "a text stands where a whole number belongs"),
        (
            "TIDEGATE_STORE__MEMORY__SIZE",
            "1",
            "a table stands where a whole number or a text like \"4MiB\" belongs",
        ),
        ("TIDEGATE_STORE__", "1", "a step of its name is empty; write two underscores between steps"),
        (
            "TIDEGATE_RULE__THE_API__NAME__X",
            "1",
            "there is a single value where \"X\" is looked for; leave the step out",
        ),
    ];
    for (name, value, reason) in wrong {
        let error = format()
            .variables([("QUOTA", "1/hour"), (name, value)])
            .parse("tidegate.toml", FILE)
            .unwrap_err();
        assert_eq!(error.to_string(), format!("tidegate.toml: variable {name}: {reason}"));
        assert_eq!((error.mistakes()[0].variable(), error.mistakes()[0].line()), (Some(name), None));
    }
}
