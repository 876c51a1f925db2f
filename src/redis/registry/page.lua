-- Some records in the order of their ids, and how many there are in all.
--
-- KEYS: records by id, ids in order. ARGV: where to begin, how many at most.
local page = { redis.call('HLEN', KEYS[1]) }
for _, id in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  page[#page + 1] = redis.call('HGET', KEYS[1], id)
end
return page
