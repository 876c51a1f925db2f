-- One list of charges: all enforced ones happen or none does. It is documented in docs/design.md, "Counting in Redis".
--
-- KEYS[i]      where limit i of a client, or of all, is kept: its state, or nothing where nothing is owed
-- ARGV[i]      five doubles: what to do (and 8 where it only watches), by how much, interval, full and most
-- ARGV[n + 1]  only in tests: the time in microseconds, and the milliseconds that a state outlives its debt
--
-- State and arguments are nanoseconds in doubles, all of them whole and exact: see `Amounts` in script.rs. A state is the
-- server's time in microseconds, what was owed then, and the interval under which that was reckoned.
local n = #KEYS
local now, slack
if ARGV[n + 1] then
  now, slack = struct.unpack('<dd', ARGV[n + 1])
else
  local time = redis.call('TIME')
  now, slack = time[1] * 1000000 + time[2], 1000
end

local plans, enforced, watched = {}, true, true
for i = 1, n do
  local op, by, interval, full, most = struct.unpack('<ddddd', ARGV[i])
  local debt, at, carried = 0, now, false
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

  local watches = op >= 8
  if watches then op = op - 8 end
  local after, wait = debt, 0
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
  plans[i] = { op, watches, debt, after, wait, at, interval, carried }
end

local answer = {}
for i = 1, n do
  local op, watches, before, debt, wait, at, interval, carried = unpack(plans[i])
  if op == 1 or (op == 0 and not (enforced and (watched or not watches))) then debt = before end
  if debt ~= before or carried then
    if debt == 0 then
      redis.call('DEL', KEYS[i])
    else
      local life = math.ceil(debt / 1000000 + (at - now) / 1000) + slack
      redis.call('SET', KEYS[i], struct.pack('<ddd', at, debt, interval), 'PX', life)
    end
  end
  answer[2 * i - 1] = debt
  answer[2 * i] = wait
end
return answer
