-- One list of charges: all enforced ones happen or none does. It is documented in docs/design.md, "Counting in Redis".
--
-- KEYS[i]      where limit i of a client, or of all, is kept: its state, or nothing where nothing is owed
-- ARGV[i]      five doubles: what to do (and 8 where it only watches), by how much, interval, full and most; and a sixth
--              where an instance leases: the most units that it takes beyond
--
-- With permits there are slots too, which are decided first:
-- KEYS[n + j]  where slot j is counted: who has one, each with the time until which it is kept
-- ARGV[n + j]  two doubles: how many there are, and 1 where it only watches
--
-- ARGV[#KEYS + 1]  with slots or in tests: how many slots, the microseconds that one is kept, the time in microseconds (only in
--                  tests; else -1), and the milliseconds that a state outlives its debt
-- ARGV[#KEYS + 2]  who takes the slots
--
-- State and arguments are nanoseconds in doubles, all of them whole and exact: see `Amounts` in script.rs. A state is the
-- server's time in microseconds, what was owed then, and the interval under which that was reckoned.
local n, slots, now, slack, life = #KEYS, 0, -1, 1000, 0
if ARGV[n + 1] then
  slots, life, now, slack = struct.unpack('<dddd', ARGV[n + 1])
  n = n - slots
end
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local answer = { 0, 0 }
local free, idle = true, true
for j = 1, slots do
  local max, watches = struct.unpack('<dd', ARGV[n + j])
  local used = redis.call('ZCOUNT', KEYS[n + j], now, '+inf')
  if used >= max then
    if watches == 1 then idle = false else free = false end
    -- Since the clock was set back, slots would be kept for longer.
    for _, who in ipairs(redis.call('ZRANGEBYSCORE', KEYS[n + j], now + 2 * life, '+inf')) do
      redis.call('ZADD', KEYS[n + j], now + life, who)
    end
  end
  answer[2 * j - 1], answer[2 * j] = used, used < max and 1 or 0
end
if not free then return answer end

-- One charge, as most lists are, stays in these and needs no table.
local op, by, interval, full, most, watches, debt, after, wait, at, carried, more
local plans, enforced, watched, leases = n > 1 and {}, true, true, false
for i = 1, n do
  op, by, interval, full, most = struct.unpack('<ddddd', ARGV[i])
  debt, at, carried, more = 0, now, false, nil
  if #ARGV[i] > 40 then more, leases = struct.unpack('<d', ARGV[i], 41), true end
  local state = redis.call('GET', KEYS[i])
  if state then
    local stamp, owed, old = 0, -1, 0
    if #state == 24 then stamp, owed, old = struct.unpack('<ddd', state) end
    if not (owed >= 0 and old > 0 and stamp >= 0) then
      return redis.error_reply('TIDEGATE the value of ' .. KEYS[i] .. ' is not one that tidegate wrote; delete it or set another prefix')
    end
    local past = now - stamp
    if past < 0 then
      -- The clock was set back. What is owed stays owed; a small step is waited out, or each one would credit again.
      if past < -100000 then carried = true else at = stamp end
      past = 0
    end
    debt = owed - past * 1000
    if debt <= 0 then
      debt, carried = 0, false
    else
      if old ~= interval then
        debt, carried = math.ceil(debt * interval / old), true
      end
      if debt > most then
        debt, carried = most, true
      end
    end
  end

  watches = op >= 8
  if watches then op = op - 8 end
  after, wait = debt, 0
  if op <= 1 then -- take or peek
    if by > full then
      wait = -1
    elseif by > 0 then
      local over = debt + by - full
      if over > 0 then wait = over + (at - now) * 1000 else after = debt + by end
    end
    if wait ~= 0 then
      if watches then watched = false else enforced = false end
    end
  elseif op == 2 then -- give
    after = debt - by
    if after < 0 then after = 0 end
  elseif op == 3 then -- owe
    after = debt + by
    if after > most then after = most end
  else -- clear
    after = 0
  end
  if plans then plans[i] = { op, watches, debt, after, wait, at, interval, carried, full, more } end
end

for i = 1, n do
  if plans then op, watches, debt, after, wait, at, interval, carried, full, more = unpack(plans[i], 1, 10) end
  local leased = 0
  if op == 1 or (op == 0 and not (enforced and (watched or not watches))) then
    after = debt
  elseif more then
    -- A quarter of what is left at most, so that the last units go one by one.
    leased = math.max(math.min(more, math.floor((full - after) / interval / 4)), 0)
    after = after + leased * interval
  end
  if leases then answer[2 * (slots + n) + i] = leased end
  if after ~= debt or carried then
    if after == 0 then
      redis.call('DEL', KEYS[i])
    else
      local life = math.ceil(after / 1000000 + (at - now) / 1000) + slack
      redis.call('SET', KEYS[i], struct.pack('<ddd', at, after, interval), 'PX', life)
    end
  end
  answer[2 * (slots + i) - 1] = after
  answer[2 * (slots + i)] = wait
end

if not enforced then slots = 0 end
for j = 1, slots do
  local _, watches = struct.unpack('<dd', ARGV[n + j])
  if watches == 0 or idle then
    local used = answer[2 * j - 1]
    -- What dead instances have left there is gone.
    if used == 0 then redis.call('DEL', KEYS[n + j]) end
    redis.call('ZADD', KEYS[n + j], now + life, ARGV[#KEYS + 2])
    -- Who has slots there already keeps the set for longer than this one.
    if used == 0 then redis.call('PEXPIRE', KEYS[n + j], math.ceil(life / 500) + slack) end
    answer[2 * j - 1] = used + 1
  end
end
return answer
