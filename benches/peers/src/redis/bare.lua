-- The barest limit that counts: one key, one number, the time at which nothing is owed any more.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free = tonumber(redis.call('GET', KEYS[1]) or 0)
if free < now then free = now end
free = free + ARGV[1]
local over = free - now - ARGV[2]
if over > 0 then return over end
redis.call('SET', KEYS[1], string.format('%.0f', free), 'PX', math.ceil((free - now) / 1000))
return 0
