#!/bin/sh
# What an operator does with the example `admin`, by curl; it fails where an answer is another than is expected.
#
#   cargo run --example admin --features admin -- --open-without-key-on-loopback
#   examples/admin.sh http://127.0.0.1:8080     # with ADMIN_API_KEY, if the example was started with one
set -eu
server=${1:-http://127.0.0.1:8080}

# ask <status> <method> <path> [<body>]: tells the answer, and leaves it in $answer.
ask() {
  answer=$(curl -sS -X "$2" "$server$3" ${ADMIN_API_KEY:+-H "X-Admin-Key: $ADMIN_API_KEY"} \
    ${4:+-H 'Content-Type: application/json' -d "$4"} -w '\n%{http_code}')
  status=${answer##*
}
  answer=${answer%
*}
  echo "$2 $3 -> $status $answer"
  [ "$status" = "$1" ] || { echo "$1 was expected" >&2; exit 1; }
}

has() {
  case $answer in *"$1"*) ;; *) echo "$1 was expected" >&2; exit 1 ;; esac
}

task() {
  ask "$1" POST /v1/enqueue "{\"client_id\":\"$2\",\"queue\":\"mail\",\"task\":{\"to\":\"ann@example.com\"}${3:-}}"
}

# Clients are put into tiers before they come; others are created in the tier default.
for client in "shop premium" "blog basic" "hobby free"; do
  ask 200 POST /admin/clients/set "{\"client_id\":\"${client% *}\",\"tier\":\"${client#* }\"}"
done
task 201 newcomer
ask 200 GET /admin/clients
has '"count":4'

# Ten a minute are all that the tier free has, unless the task brings more along, or an operator grants more.
for number in 1 2 3 4 5 6 7 8 9 10; do task 201 hobby; done
task 429 hobby
has '"error":"Rate limit exceeded"'
task 201 hobby ',"rate_limit":{"max_concurrent":9,"requests_per_min":500}'
task 400 hobby ',"rate_limit":{"requests_per_min":0}'
task 400 hobby ',"rate_limit":{"requests_per_min":1001}'
ask 200 POST /admin/grants/set '{"client_id":"hobby","rate_limit":{"requests_per_min":100},"expires_in":3600}'
task 201 hobby
ask 200 GET "/admin/clients/usage?client_id=hobby"
has '"quota":"100/minute"'

# From one moment to the next.
ask 200 PUT /admin/clients/set '{"client_id":"blog","enabled":false}'
task 401 blog
has 'the client is disabled'
ask 200 PUT /admin/clients/set '{"client_id":"blog","enabled":true,"allowed_queues":["posts"]}'
task 403 blog
ask 204 DELETE "/admin/clients/delete?client_id=blog"
ask 404 GET "/admin/clients/get?client_id=blog"
ask 400 POST /admin/clients/set '{"client_id":"a b"}'
ask 405 PATCH /admin/tiers
echo "all as expected"
