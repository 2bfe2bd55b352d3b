"""A server under one attack at a time while good clients go on: `python -m bench.attacks`.

1. Loopback only: 127.0.0.0/8. Whatever is asked, no other address is talked to.
2. Everything is bounded in count and time and ends by itself; attackers are processes of their own.
3. Goals are judged by the program, row by row (`judge`); a row that misses one makes the exit code 1.
"""
