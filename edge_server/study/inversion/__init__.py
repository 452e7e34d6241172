"""What a token gives away: attackers who decode scenes from tokens, and what stops them."""
