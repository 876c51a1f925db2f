-- The record of whoever holds an API key. KEYS: ids by API key, records by id. ARGV: the key's hash.
local id = redis.call('HGET', KEYS[1], ARGV[1])
return id and redis.call('HGET', KEYS[2], id)
