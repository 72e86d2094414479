package auth

import (
	"slices"
	"strings"
)

// Recognizes reports whether an Authorization field is meant for this server and
// not for a web server behind it: it holds what NewToken makes, valid or not, a
// user's token, or the name of a user who has a password. It checks no password,
// so that it takes next to no time and the password may be wrong.
func (u *Users) Recognizes(authorization string) bool {
	if len(authorization) > maxAuthorization {
		return false
	}
	scheme, value, _ := strings.Cut(authorization, " ")
	value = strings.Trim(value, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return u.isToken(value)
	case strings.EqualFold(scheme, "Basic"):
		name, password, ok := parseBasic(value)
		return ok && (u.isToken(password) || u.hasPassword(name))
	}
	return false
}

// isToken reports whether text is a token of this server or looks like one.
func (u *Users) isToken(text string) bool {
	return strings.HasPrefix(text, tokenPrefix) || u != nil && u.byToken(text).acct != nil
}

func (u *Users) hasPassword(name string) bool {
	if u == nil || u.byName[name] == nil {
		return false
	}
	return slices.ContainsFunc(u.byName[name].secrets, func(s *secret) bool { return s.bcrypt != nil })
}
